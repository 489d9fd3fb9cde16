#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>

#include "model/config_keys.h"

namespace tqkv {
namespace {

using nlohmann::json;

const json& object_at(const ConfigReader& text, const char* key) {
  static const json none = json::object();
  const json* found = text.find(key);
  if (!found) return none;
  if (!found->is_object()) text.fail(fmt::format("{} is {}, expected an object", key, shown(found->dump())));
  return *found;
}

/// rope_type, or `type` as older files have it; "mrope" has the angles of "default".
std::string type_of(const ConfigReader& rope) {
  const auto plain = [](const std::string& type) { return type == "mrope" ? std::string("default") : type; };
  const std::string type = plain(rope.string_or("rope_type", "")), older = plain(rope.string_or("type", ""));
  if (!type.empty() && !older.empty() && type != older)
    rope.fail(fmt::format("rope_type is \"{}\", but type is \"{}\"", shown(type), shown(older)));
  return type.empty() ? older : type;
}

/// The keys of rope_parameters and of rope_scaling, which older files and instructions for long contexts have, in one
/// object. Both may say the same; a rope_scaling takes the place of the type "default".
json merged(const ConfigReader& parameters, const ConfigReader& scaling) {
  json rope = parameters.object();
  const std::string own = type_of(parameters), other = type_of(scaling);
  for (const char* key : {"rope_type", "type"}) rope.erase(key);
  if (!own.empty() && !other.empty() && own != other && own != "default")
    scaling.fail(fmt::format("rope_type is \"{}\" here and \"{}\" in rope_parameters", shown(other), shown(own)));
  rope["rope_type"] = other.empty() ? (own.empty() ? "default" : own) : other;
  for (const auto& [key, value] : scaling.object().items()) {
    if (key == "rope_type" || key == "type" || value.is_null()) continue;
    const auto said = rope.find(key);
    if (said != rope.end() && !said->is_null() && *said != value)
      scaling.fail(
          fmt::format("{} is {} here and {} in rope_parameters", key, shown(value.dump()), shown(said->dump())));
    rope[key] = value;
  }
  return rope;
}

/// What `key` says in `rope` or, as older files have it, in the text config; both must agree.
const json* either(const ConfigReader& text, const ConfigReader& rope, const char* key) {
  const json *inner = rope.find(key), *outer = text.find(key);
  if (inner && outer && *inner != *outer)
    text.fail(fmt::format("{} is {} here and {} in rope_parameters", key, shown(outer->dump()), shown(inner->dump())));
  return inner ? inner : outer;
}

/// A number from `least` to `most`, or nothing when it is absent.
std::optional<double> number_in(const ConfigReader& rope, const char* key, double least, double most) {
  const json* value = rope.find(key);
  if (!value) return std::nullopt;
  const double number = rope.number(*value, key);
  if (!(number >= least && number <= most))
    rope.fail(fmt::format("{} is {}, expected a number from {} to {}", key, shown(value->dump()), least, most));
  return number;
}

double magnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

constexpr double most_factor = 1024, most_beta = 1e6, most_scale = 100;

Yarn read_yarn(const ConfigReader& text, const ConfigReader& rope, int context) {
  Yarn yarn;
  const json* original = either(text, rope, "original_max_position_embeddings");
  yarn.original_context =
      original ? rope.checked_integer(*original, "original_max_position_embeddings", 1, most_context) : context;
  const auto factor = number_in(rope, "factor", 1, most_factor);
  if (!factor && context < yarn.original_context)
    rope.fail(
        fmt::format("factor is missing, and max_position_embeddings ({}) is less than "
                    "original_max_position_embeddings ({})",
                    context, yarn.original_context));
  yarn.factor = factor ? *factor : static_cast<double>(context) / yarn.original_context;
  // 0 stands for the default, as in transformers.
  const double fast = number_in(rope, "beta_fast", 0, most_beta).value_or(0),
               slow = number_in(rope, "beta_slow", 0, most_beta).value_or(0);
  if (fast != 0) yarn.beta_fast = fast;
  if (slow != 0) yarn.beta_slow = slow;
  if (yarn.beta_fast < yarn.beta_slow)
    rope.fail(fmt::format("beta_fast is {}, expected no less than beta_slow ({})", yarn.beta_fast, yarn.beta_slow));
  yarn.truncate = rope.boolean_or("truncate", true);
  const double mscale = number_in(rope, "mscale", 0, most_scale).value_or(0),
               all = number_in(rope, "mscale_all_dim", 0, most_scale).value_or(0);
  const auto attention = number_in(rope, "attention_factor", 1e-3, most_scale);
  yarn.attention_factor = attention                 ? *attention
                          : mscale != 0 && all != 0 ? magnitude(yarn.factor, mscale) / magnitude(yarn.factor, all)
                                                    : magnitude(yarn.factor, 1);
  return yarn;
}

/// Files give max_position_embeddings with the scaling in it or without.
int scaled_context(const ConfigReader& rope, const Yarn& yarn, int context) {
  if (context > yarn.original_context) return context;
  const double scaled = std::floor(yarn.factor * yarn.original_context);
  if (scaled > most_context)
    rope.fail(fmt::format("factor {} of {} tokens gives {:.0f}, more than the {} that are supported", yarn.factor,
                          yarn.original_context, scaled, most_context));
  return static_cast<int>(scaled);
}

/// The channel that turns `rotations` times in the original context; a fraction.
double channel_of(double rotations, const ModelConfig& config) {
  return config.rotary_dim * std::log(config.yarn->original_context / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope_theta));
}

}  // namespace

void read_rope(const ConfigReader& text, ModelConfig& config) {
  const ConfigReader parameters(object_at(text, "rope_parameters"), text.where() + ": rope_parameters");
  const ConfigReader scaling(object_at(text, "rope_scaling"), text.where() + ": rope_scaling");
  check_rope_keys(parameters);
  check_rope_keys(scaling);
  const json both = merged(parameters, scaling);
  const ConfigReader rope(
      both, parameters.object().empty() && !scaling.object().empty() ? scaling.where() : parameters.where());
  const std::string type = type_of(rope);
  if (type != "default" && type != "yarn")
    rope.fail(fmt::format("rope_type is \"{}\", only \"default\" and \"yarn\" are supported", shown(type)));

  const json* theta = either(text, rope, "rope_theta");
  if (!theta) rope.fail("rope_theta is missing");
  config.rope_theta = rope.number(*theta, "rope_theta");
  if (!(config.rope_theta > 1 && config.rope_theta <= 1e15))
    rope.fail(fmt::format("rope_theta is {}, expected a number above 1", shown(theta->dump())));

  const json* partial = either(text, rope, "partial_rotary_factor");
  const double share = partial ? rope.number(*partial, "partial_rotary_factor") : 0.25;
  if (!(share > 0 && share <= 1)) rope.fail(fmt::format("partial_rotary_factor is {}, expected 0 to 1", share));
  config.rotary_dim = static_cast<int>(std::floor(config.head_dim * share + 1e-6));
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0)
    rope.fail(fmt::format("partial_rotary_factor {} of head_dim {} gives {} rotary channels, expected an even number",
                          share, config.head_dim, config.rotary_dim));

  if (type == "yarn") {
    config.yarn = read_yarn(text, rope, config.max_position_embeddings);
    config.max_position_embeddings = scaled_context(rope, *config.yarn, config.max_position_embeddings);
    return;
  }
  for (const char* key : {"factor", "attention_factor"})
    if (const json* value = rope.find(key); value && *value != 1)
      rope.fail(
          fmt::format("{} is {}, but rope_type is \"default\", which scales nothing: set rope_type to \"yarn\" "
                      "or remove {}",
                      key, shown(value->dump()), key));
}

void RotaryAngles::at(int position, float* cosine, float* sine) const {
  for (std::size_t i = 0; i < inverse_frequency.size(); ++i) {
    const double angle = static_cast<float>(position) * inverse_frequency[i];  // rounded to f32 first
    cosine[i] = static_cast<float>(std::cos(angle)) * scale;
    sine[i] = static_cast<float>(std::sin(angle)) * scale;
  }
}

RotaryAngles rotary_angles(const ModelConfig& config) {
  RotaryAngles angles;
  const int half = config.rotary_dim / 2;
  // In f32, as the model was trained: at position 32,768 the rounding of the angle is visible.
  const auto base = static_cast<float>(config.rope_theta), dim = static_cast<float>(config.rotary_dim);
  float low = 0, span = 1, factor = 1;
  if (config.yarn) {
    const Yarn& yarn = *config.yarn;
    double first = channel_of(yarn.beta_fast, config), last = channel_of(yarn.beta_slow, config);
    if (yarn.truncate) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, static_cast<double>(config.rotary_dim - 1));
    if (first == last) last += 0.001;
    low = static_cast<float>(first);
    span = static_cast<float>(last - first);
    factor = static_cast<float>(yarn.factor);
    angles.scale = static_cast<float>(yarn.attention_factor);
  }
  for (int i = 0; i < half; ++i) {
    const float period = std::pow(base, static_cast<float>(2 * i) / dim);
    const float kept = 1.0f / period;
    if (!config.yarn) {
      angles.inverse_frequency.push_back(kept);
      continue;
    }
    const float stretched = 1.0f / (factor * period);
    const float share = 1.0f - std::clamp((static_cast<float>(i) - low) / span, 0.0f, 1.0f);  // that is kept
    angles.inverse_frequency.push_back(stretched * (1.0f - share) + kept * share);
  }
  return angles;
}

}  // namespace tqkv
