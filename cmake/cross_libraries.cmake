# The libraries for a cross build, from the headers and sources of this machine's own packages:
# their binaries are for another processor.
add_library(fmt::fmt INTERFACE IMPORTED)
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY)
add_library(spdlog::spdlog INTERFACE IMPORTED)
target_compile_definitions(spdlog::spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(spdlog::spdlog INTERFACE fmt::fmt Threads::Threads)

file(CONFIGURE OUTPUT boost_json.cpp CONTENT "#include <boost/json/src.hpp>\n")
add_library(boost_json STATIC ${PROJECT_BINARY_DIR}/boost_json.cpp)
target_compile_definitions(boost_json PUBLIC BOOST_JSON_NO_LIB BOOST_CONTAINER_NO_LIB
                                             BOOST_JSON_STATIC_LINK)
add_library(Boost::json ALIAS boost_json)

if(FACET_TESTS)
  # Where Debian's googletest package puts it; makes GTest::gtest and the like.
  add_subdirectory(/usr/src/googletest ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
endif()
