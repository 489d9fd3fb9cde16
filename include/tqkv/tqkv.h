// All of tqkv: the usual way is Engine::load, Engine::open, encode and generate (examples/).
#pragma once
#include "tqkv/benchmark.h"
#include "tqkv/chat.h"
#include "tqkv/checkpoint.h"
#include "tqkv/engine.h"
#include "tqkv/error.h"
#include "tqkv/generate.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"
#include "tqkv/sampling.h"
#include "tqkv/tokenizer.h"
#include "tqkv/version.h"
