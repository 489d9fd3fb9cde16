// The page of a report: HTML that is also well-formed XML, with its style inside and nothing to fetch or run.
#pragma once
#include <string>
#include <vector>

#include "measure/page/parts.h"

namespace tqkv::measure {

struct Page {
  std::string title;
  std::vector<std::string> introduction;  // paragraphs
  std::vector<Section> sections;
  std::vector<std::string> left_out;
  std::string command;  // that made the page
};

std::string page_text(const Page& page);

}  // namespace tqkv::measure
