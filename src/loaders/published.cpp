#include "loaders/published.h"

#include <array>

namespace tqkv {
namespace {

// Sizes and hashes as the hub gives them for this revision (read on 2026-02-24; a test compares the config.json that is
// kept in models/configs).
constexpr std::array<PublishedFile, 10> qwen35_35b_a3b_4bit = {{
    {"chat_template.jinja", 7756, "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715"},
    {"config.json", 3809, "c0cf317cba802cfb1d2984d4b4afc98ceb3d86450ed757e028383bfb03643964"},
    {"generation_config.json", 244, "4f25002776b741773666203dcea8f54619f177ace3ae483d311102092a4658e0"},
    {"model-00001-of-00004.safetensors", 5285828971,
     "0952c2fd5ec5f6163a045003eb0e60465290ac0ebedbe2cecde35dd95abed345"},
    {"model-00002-of-00004.safetensors", 5366101807,
     "ddf163fcbaa7fc1ff2e93ee2e3306b1c31c4fe3c7dd46990cd2737d0cc30197f"},
    {"model-00003-of-00004.safetensors", 5364643286,
     "5e7d8deca9240eec828c9a451fbd8a95389a7cc18494f400c330d0717c41f6e1"},
    {"model-00004-of-00004.safetensors", 4375105375,
     "b540bac1ef081d7011e32428e0c2da77f00699db2f4f1508da73ee3b8de40551"},
    {"model.safetensors.index.json", 215755, "56f02123353b7fe444b287a46a779a836cb939860502908da4a79e3b43931cdb"},
    {"tokenizer.json", 19989343, "87a7830d63fcf43bf241c3c5242e96e62dd3fdc29224ca26fed8ea333db72de4"},
    {"tokenizer_config.json", 1139, "e98f1901ac6f0adff67b1d540bfa0c36ac1a0cf59eb72ed78146ef89aafa1182"},
}};

constexpr std::array<PublishedCheckpoint, 1> checkpoints = {{
    {"mlx-community/Qwen3.5-35B-A3B-4bit", "1e20fd8d42056f870933bf98ca6211024744f7ec", qwen35_35b_a3b_4bit},
}};

}  // namespace

std::uint64_t PublishedCheckpoint::bytes() const {
  std::uint64_t sum = 0;
  for (const PublishedFile& file : files) sum += file.bytes;
  return sum;
}

const PublishedCheckpoint* published_checkpoint(std::string_view id) {
  for (const PublishedCheckpoint& checkpoint : checkpoints)
    if (checkpoint.id == id) return &checkpoint;
  return nullptr;
}

const PublishedCheckpoint* published_with_config(std::string_view sha256) {
  for (const PublishedCheckpoint& checkpoint : checkpoints)
    for (const PublishedFile& file : checkpoint.files)
      if (file.path == "config.json" && file.sha256 == sha256) return &checkpoint;
  return nullptr;
}

}  // namespace tqkv
