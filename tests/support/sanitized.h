// Some cases run whole models for minutes under the sanitizers: they are skipped there, where shorter ones reach the
// same code: TEST_CASE("…" * doctest::skip(test::sanitized)).
#pragma once

namespace tqkv::test {

#if defined(TQKV_SANITIZED)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace tqkv::test
