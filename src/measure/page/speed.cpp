// Speed against depth.
#include <fmt/format.h>

#include <algorithm>

#include "base/numbers.h"
#include "measure/figures/text_table.h"
#include "measure/page/parts.h"

namespace tqkv::measure {
namespace {

using Get = std::optional<Spread> (*)(const SpeedRun& run);

std::optional<Spread> decode_speed(const SpeedRun& run) {
  return run.generation_tps;
}
std::optional<Spread> decode_ratio(const SpeedRun& run) {
  return run.ratios ? run.ratios->generation_tps : std::nullopt;
}
std::optional<Spread> prompt_speed(const SpeedRun& run) {
  return run.prompt_tps;
}
std::optional<Spread> prompt_ratio(const SpeedRun& run) {
  return run.ratios ? std::optional(run.ratios->prompt_tps) : std::nullopt;
}

// Runs of one length stand together, whatever their depth.
bool same_tokens(const Lengths& a, const Lengths& b) {
  return a.prompt_tokens == b.prompt_tokens && a.generation_tokens == b.generation_tokens;
}

std::vector<const SpeedRun*> runs_of(const SpeedGroup& group, const Lengths& lengths) {
  std::vector<const SpeedRun*> runs;
  for (const SpeedRun& run : group.runs) {
    if (same_tokens(run.lengths, lengths)) runs.push_back(&run);
  }
  return runs;
}

std::vector<int> depths_of(const std::vector<const SpeedRun*>& runs) {
  std::vector<int> depths;
  depths.reserve(runs.size());
  for (const SpeedRun* run : runs) depths.push_back(run->lengths.depth);
  std::sort(depths.begin(), depths.end());
  depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
  return depths;
}

bool any_has(const std::vector<const SpeedRun*>& runs, Get get) {
  return std::any_of(runs.begin(), runs.end(), [&](const SpeedRun* run) { return get(*run).has_value(); });
}

double add_bars(Canvas& canvas, double y, const std::vector<const SpeedRun*>& runs, const Styles& styles, Get get,
                std::string_view title, bool ratio) {
  std::vector<Bar> bars;
  for (const SpeedRun* run : runs) {
    const std::optional<Spread> spread = get(*run);
    if (!spread) continue;
    bars.push_back({run->name,
                    ratio ? ratio_text(*spread) : spread_text(*spread),
                    styles.of(run->format),
                    {spread->median, spread->min, spread->max}});
  }
  return draw_bars(canvas, y, title, bars, ratio);
}

double add_lines(Canvas& canvas, double y, const std::vector<const SpeedRun*>& runs, const std::vector<int>& depths,
                 const Styles& styles, Get get, std::string_view title, bool ratio) {
  LineChart chart;
  chart.up_title = title;
  chart.across_title = "depth: tokens in the cache before (steps are not to scale)";
  chart.from_zero = !ratio;
  if (ratio) chart.levels.push_back({"baseline", 1});
  for (const int depth : depths) chart.categories.push_back(tokens_text(depth));
  for (const SpeedRun* run : runs) {
    const std::optional<Spread> spread = get(*run);
    if (!spread || (ratio && backend_of(run->format) == "baseline")) continue;
    auto series = std::find_if(chart.series.begin(), chart.series.end(),
                               [&](const Series& other) { return other.name == run->name; });
    if (series == chart.series.end())
      series = chart.series.insert(series, {run->name, backend_of(run->format), styles.of(run->format),
                                            std::vector<std::optional<SeriesPoint>>(depths.size())});
    const auto place = std::find(depths.begin(), depths.end(), run->lengths.depth) - depths.begin();
    series->points[static_cast<std::size_t>(place)] = SeriesPoint{spread->median, spread->min, spread->max};
  }
  return chart.series.empty() ? 0 : draw_line_chart(canvas, y, chart);
}

std::string described(const std::vector<const SpeedRun*>& runs, Get speed, Get ratio) {
  std::vector<std::string> parts;
  for (const SpeedRun* run : runs) {
    const std::optional<Spread> spread = speed(*run), relative = ratio(*run);
    if (!spread) continue;
    std::string part =
        fmt::format("{} at depth {}: {} tokens/s", run->name, run->lengths.depth, rounded(spread->median));
    if (relative) part += fmt::format(", {:.2f} of baseline", relative->median);
    parts.push_back(std::move(part));
  }
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

Drawing draw(const std::vector<const SpeedRun*>& runs, const Styles& styles, bool decode) {
  const Get speed = decode ? decode_speed : prompt_speed, ratio = decode ? decode_ratio : prompt_ratio;
  const std::vector<int> depths = depths_of(runs);
  Canvas canvas;
  double y = 2;
  const std::string title = fmt::format("{}, tokens/s", decode ? "decode" : "prompt");
  const std::string ratio_title = fmt::format("{} speed against baseline", decode ? "decode" : "prompt");
  if (depths.size() > 1) {
    y += add_lines(canvas, y, runs, depths, styles, speed, title, false);
    if (any_has(runs, ratio)) y += add_lines(canvas, y, runs, depths, styles, ratio, ratio_title, true);
  } else {
    y += add_bars(canvas, y, runs, styles, speed, title + ": median and range", false);
    if (any_has(runs, ratio)) y += add_bars(canvas, y, runs, styles, ratio, ratio_title + ": median and range", true);
  }
  Drawing drawing;
  drawing.id = decode ? "decode-speed" : "prompt-speed";
  drawing.title = decode ? "Decode speed by depth" : "Prompt speed by depth";
  drawing.description = fmt::format(
      "{}Medians: {}. The table next to the figure has the ranges.",
      depths.size() > 1 ? "A line for each format over the depths. " : "A bar for each format at one depth. ",
      described(runs, speed, ratio));
  drawing.width = figure_width;
  drawing.height = y + 4;
  drawing.body = canvas.body();
  return drawing;
}

Table table_of(const std::vector<const SpeedRun*>& runs) {
  Table table{"Speed: median (smallest – largest)",
              {{"format", Column::Kind::words},
               {"depth, tokens"},
               {"trials"},
               {"prompt, tokens/s"},
               {"x baseline"},
               {"decode, tokens/s"},
               {"x baseline"},
               {"ratios", Column::Kind::words},
               {"peak memory, GB"},
               {"mean KL, nats"},
               {"same top token"}},
              {}};
  for (const SpeedRun* run : runs) {
    const auto ratio = [](const std::optional<Spread>& spread) {
      return spread ? ratio_text(*spread) : std::string("–");
    };
    table.rows.push_back({run->name, grouped(run->lengths.depth), std::to_string(run->trials),
                          spread_text(run->prompt_tps), ratio(prompt_ratio(*run)),
                          run->generation_tps ? spread_text(*run->generation_tps) : "–", ratio(decode_ratio(*run)),
                          run->ratios ? (run->ratios->paired ? "paired" : "unpaired") : "–",
                          fmt::format("{:.3f}", run->peak_memory_gb), run->mean_kl ? rounded(*run->mean_kl) : "–",
                          run->same_top ? percent(*run->same_top) : "–"});
  }
  return table;
}

}  // namespace

void add_speeds(const ReportContext& context) {
  for (const SpeedGroup& group : context.data.speeds) {
    std::vector<Lengths> lengths;
    for (const SpeedRun& run : group.runs) {
      const bool there = std::any_of(lengths.begin(), lengths.end(),
                                     [&](const Lengths& other) { return same_tokens(other, run.lengths); });
      if (!there) lengths.push_back(run.lengths);
    }
    for (const Lengths& length : lengths) {
      const std::vector<const SpeedRun*> runs = runs_of(group, length);
      Section section;
      section.id = fmt::format("speed-{}-{}", length.prompt_tokens, length.generation_tokens);
      section.title = fmt::format("Speed: {} prompt and {} generated tokens{}", grouped(length.prompt_tokens),
                                  grouped(length.generation_tokens), context.of(group));
      std::string text =
          fmt::format("{} on {} ({}), {} precision.", group.model, group.cpu, group.device, group.precision);
      if (!length.decode_figure()) text += " Fewer than 128 generated tokens are not a decode figure.";
      section.paragraphs.push_back(std::move(text));
      if (std::any_of(runs.begin(), runs.end(), [](const SpeedRun* run) {
            return run->ratios && !run->ratios->paired && backend_of(run->format) != "baseline";
          }))
        section.paragraphs.push_back(
            "Unpaired ratios come from separate runs: what the machine did in between counts as a difference.");
      if (any_has(runs, decode_speed)) section.drawings.push_back(draw(runs, context.styles, true));
      section.drawings.push_back(draw(runs, context.styles, false));
      section.tables.push_back(table_of(runs));
      context.sections.push_back(std::move(section));
    }
  }
  if (context.data.speeds.empty()) context.left_out.push_back("speed: there is no benchmark among the files");
}

}  // namespace tqkv::measure
