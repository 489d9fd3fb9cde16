#include "measure/figures/number_text.h"
#include "measure/page/labels.h"

#include <doctest/doctest.h>

#include <set>

using namespace tqkv;
using namespace tqkv::measure;

TEST_CASE("the Pareto front holds the points that nothing smaller matches and nothing equal beats") {
  //                                      0          1          2          3          4           5
  const std::vector<RatePoint> points = {{4.5, 8}, {4.06, 4}, {3.06, 9}, {4.06, 5}, {2.06, 40}, {3.5, 4}};
  CHECK(pareto_front(points) == std::vector<std::size_t>{4, 2, 5});
  CHECK(pareto_front({}).empty());
  CHECK(pareto_front({{4, 1}, {4, 1}}) == std::vector<std::size_t>{0, 1});  // equal points beat each other in nothing
}

TEST_CASE("a format's name says what tells it from the others of its backend, and nothing else") {
  const std::string t4 = "turboquant:k=4:v=4:scalar=corrected:seed=0:table=1",
                    t43 = "turboquant:k=4:v=3:scalar=corrected:seed=0:table=1",
                    t4b = "turboquant:k=4:v=4:scalar=best:seed=0:table=1", m = "mlx_quant:k=4:v=4:group=64";
  auto names = short_names({t4, m});
  CHECK(names[t4] == "turboquant");
  CHECK(names[m] == "mlx_quant");
  names = short_names({t4, t43, m, t4});
  CHECK(names[t4] == "turboquant 4");
  CHECK(names[t43] == "turboquant 4/3");
  CHECK(names[m] == "mlx_quant");
  names = short_names({t4, t4b});
  CHECK(names[t4] == "turboquant scalar=corrected");
  CHECK(names[t4b] == "turboquant scalar=best");
  names = short_names({t4, t43, t4b, t4 + ":window=64"});
  std::set<std::string> distinct;
  for (const auto& [format, name] : names) distinct.insert(name);
  CHECK(distinct.size() == 4);
  CHECK(short_names({"a:x=1", "a:=1", ":::", ""}).size() == 4);  // whatever a file says
}

TEST_CASE("nine formats have styles of their own, more share those of their backend, baseline always has the same") {
  std::vector<std::string> formats = {"baseline:bits=16"};
  for (int i = 0; i < 9; ++i) formats.push_back("codec" + std::to_string(i) + ":k=4");
  const Styles few(formats);
  CHECK(few.by_format());
  std::set<int> distinct;
  for (const std::string& format : formats) distinct.insert(few.of(format));
  CHECK(distinct.size() == formats.size());
  formats.push_back("codec0:k=3");
  const Styles many(formats);
  CHECK(!many.by_format());
  CHECK(many.of("codec0:k=3") == many.of("codec0:k=4"));
  CHECK(many.of("codec0:k=3") != many.of("codec1:k=4"));
  CHECK(many.of("baseline:bits=16") == few.of("baseline:bits=16"));
}

TEST_CASE("numbers have the digits that their errors leave") {
  CHECK(with_error(0.0046312, 0.000214) == "0.00463 ± 0.00021");
  CHECK(with_error(1.0031, 0.00047) == "1.00310 ± 0.00047");
  CHECK(with_error(2.1e-9, 6.3e-11) == "(2.100 ± 0.063)e-9");
  CHECK(with_error(0.25, std::nullopt) == "0.25");
  CHECK(with_error(0, 0.0) == "0");
  CHECK(percent(0.9375) == "93.8 %");
  CHECK(percent(0.99912) == "99.91 %");
  CHECK(percent(1) == "100.0 %");
  CHECK(percent_with_error(0.968, 0.0027) == "96.80 ± 0.27 %");
  CHECK(points_text(-1.818) == "-1.8");
  CHECK(points_text(0.5) == "+0.5");
  CHECK(tokens_text(32768) == "32K");
  CHECK(tokens_text(4095) == "4,095");
  CHECK(tokens_text(256) == "256");
  CHECK(spread_text({4321.6, 4031.1, 4418}) == "4,322 (4,031 – 4,418)");
  CHECK(ratio_text({1.42, 1.29, 1.49}) == "1.42 (1.29 – 1.49)");
  CHECK(listed({"a", "b", "c"}) == "a, b and c");
}
