# Writes OUT, a source with `std::string_view FUNCTION()` (declared in HEADER) that gives the text of FILE, in which
# @VERSION@ became VERSION. cmake -DFILE=… -DVERSION=… -DHEADER=… -DFUNCTION=… -DOUT=FILE -P embed_text.cmake
cmake_minimum_required(VERSION 3.25)
file(READ ${FILE} text)
string(FIND "${text}" ")facet\"" place)
if(NOT place EQUAL -1)
  message(FATAL_ERROR "${FILE} must not contain )facet\"")
endif()
string(REPLACE "@VERSION@" "${VERSION}" text "${text}")
file(WRITE ${OUT} "#include \"${HEADER}\"

namespace facet {

std::string_view ${FUNCTION}() { return R\"facet(${text})facet\"; }

}  // namespace facet
")
