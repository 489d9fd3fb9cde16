# Fuzz targets. Built for libFuzzer with TQKV_FUZZ (clang); otherwise each is a program that replays its seeds and a fixed
# number of mutations of them.
set(TQKV_FUZZ_SECONDS 5 CACHE STRING "how long each target is fuzzed as a test")
file(GLOB targets CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_*.cpp)
foreach(source ${targets})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE fuzz_ "" subject ${name})
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(room base loaders hub model codec cache runtime text grammar generation measure server)
    target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/rooms/${room})
  endforeach()
  target_link_libraries(${name} PRIVATE tqkv nlohmann_json::nlohmann_json)
  tqkv_warnings(${name})
  set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${subject})
  if(TQKV_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    # New inputs go to the build tree; the seeds are read only.
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/corpus/${subject})
    add_test(NAME "fuzz: ${subject}" COMMAND ${name} -max_total_time=${TQKV_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=3000 -max_len=32768
             ${CMAKE_CURRENT_BINARY_DIR}/corpus/${subject} ${seeds})
  else()
    target_sources(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/replay.cpp)
    add_test(NAME "fuzz: ${subject}" COMMAND ${name} ${seeds})
  endif()
endforeach()

# Of what measures, the sanitized library has nothing: the target brings what it reaches.
if(TQKV_SANITIZE AND NOT TQKV_SANITIZE_ALL)
  foreach(part agreement/captured agreement/captured_file figures/number_text figures/text_table)
    target_sources(fuzz_captured PRIVATE ${CMAKE_SOURCE_DIR}/src/measure/${part}.cpp)
  endforeach()
endif()
