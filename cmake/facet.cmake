# facet_library(folder [LINK libs…] [TEST_LINK libs…]): one library from src/<folder>/*.cpp, and a test program from
# src/<folder>/*_test.cpp. What it may see of the tree comes from src/layers.txt, so the build and the
# layer test cannot disagree.

file(STRINGS ${PROJECT_SOURCE_DIR}/src/layers.txt FACET_LAYERS REGEX "^[a-z]")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/layers.txt)

function(facet_target_name folder out)
  string(REPLACE "/" "_" name ${folder})
  set(${out} facet_${name} PARENT_SCOPE)
endfunction()

# The folders that `folder` points to, as target names.
function(facet_arrows folder out)
  set(found FALSE)
  set(result)
  foreach(line ${FACET_LAYERS})
    if(line MATCHES "^([a-z0-9/]+) *:(.*)$" AND CMAKE_MATCH_1 STREQUAL folder)
      set(found TRUE)
      string(STRIP "${CMAKE_MATCH_2}" targets)
      separate_arguments(targets UNIX_COMMAND "${targets}")
      foreach(target ${targets})
        facet_target_name(${target} name)
        list(APPEND result ${name})
      endforeach()
    endif()
  endforeach()
  if(NOT found)
    message(FATAL_ERROR "src/layers.txt has no line for '${folder}'")
  endif()
  set(${out} ${result} PARENT_SCOPE)
endfunction()

function(facet_library folder)
  cmake_parse_arguments(ARG "" "" "LINK;TEST_LINK" ${ARGN})
  facet_target_name(${folder} name)
  facet_arrows(${folder} arrows)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
  # What only tests include (test_vocab.h, config_test.h, …) is no part of the library.
  list(FILTER headers EXCLUDE REGEX "(_test|_test_[a-z]+|/test_[a-z]+)\\.h$")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  if(sources)
    set(scope PUBLIC)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PRIVATE facet_warnings)
  else()
    set(scope INTERFACE)
    add_library(${name} INTERFACE)
  endif()
  target_sources(${name} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src
                                  FILES ${headers})
  target_include_directories(${name} ${scope} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} ${scope} ${arrows} ${ARG_LINK})
  if(tests AND FACET_TESTS)
    facet_test(${name}_test ${tests} LINK ${name} ${ARG_TEST_LINK})
  endif()
endfunction()

# facet_test(name sources… LINK libs… [LABELS labels…] [TIMEOUT s]): a GoogleTest program; ctest runs
# each of its tests as one entry, so that a skip shows as Skipped.
function(facet_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LINK;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} facet_test_support GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()

# facet_fuzz_target(name source LINK libs… CORPUS dir): with FACET_FUZZ a libFuzzer program fuzz_<name>;
# always a program replay_<name> that runs the stored corpus, which ctest calls.
function(facet_fuzz_target name source)
  cmake_parse_arguments(ARG "" "CORPUS" "LINK" ${ARGN})
  if(FACET_FUZZ)
    add_executable(fuzz_${name} ${source})
    target_link_libraries(fuzz_${name} PRIVATE ${ARG_LINK} facet_warnings)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
  if(FACET_TESTS)
    add_executable(replay_${name} ${source} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cpp)
    target_link_libraries(replay_${name} PRIVATE ${ARG_LINK} facet_warnings)
    add_test(NAME fuzz.replay_${name} COMMAND replay_${name} ${ARG_CORPUS})
    set_tests_properties(fuzz.replay_${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
endfunction()
