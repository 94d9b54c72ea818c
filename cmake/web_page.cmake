# Writes OUT, a source that holds the page of src/server/web: page.html with STYLE and SCRIPTS put in.
# cmake -DPAGE=FILE -DSTYLE=FILE -DSCRIPTS=FILE;FILE;… -DOUT=FILE -P web_page.cmake
cmake_minimum_required(VERSION 3.25)
file(READ ${PAGE} page)
file(READ ${STYLE} style)
set(script "\n")
foreach(file ${SCRIPTS})
  file(READ ${file} text)
  string(APPEND script "${text}")
endforeach()
# These would end the element, or the string below, in the midst of it.
foreach(end "</s" "<!--" ")facet\"")
  string(FIND "${style}${script}" "${end}" place)
  if(NOT place EQUAL -1)
    message(FATAL_ERROR "src/server/web: style and scripts must not contain ${end}")
  endif()
endforeach()
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")
file(WRITE ${OUT} "#include \"server/web_page.h\"

namespace facet {

std::string_view web_page_text() { return R\"facet(${page})facet\"; }

}  // namespace facet
")
