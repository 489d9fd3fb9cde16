// What answers say: shares with intervals, and the difference between two caches question by question.
#pragma once
#include <vector>

#include "measure/recall/recall.h"
#include "measure/recall/set.h"

namespace tqkv::measure {

/// Two-sided 95%.
inline constexpr double normal_95 = 1.959963984540054;
/// 97.5% quantile of Student's t (Cornish and Fisher's expansion; tabled below 5 degrees of freedom).
double student_95(int degrees);

/// Wilson's interval (1927) for `right` of `asked`; 0 to 1 for nothing asked.
Proportion wilson(int right, int asked);

/// `reference` and `own` are [context][question]. The interval is the wider one, on each side, of two: Student's on the
/// means of contexts as clusters, which sees that questions of one context stand or fall together, and Bonett and
/// Price's (2012), which is not empty when no answer changed.
PairedDifference paired_difference(const std::vector<std::vector<int>>& reference,
                                   const std::vector<std::vector<int>>& own);

/// Every figure of a result from its answers. `depths` are those of the needles of a context.
void score(RecallResult& result, const std::vector<RecallContext>& contexts, const std::vector<double>& depths,
           const std::vector<std::vector<int>>& reference);

}  // namespace tqkv::measure
