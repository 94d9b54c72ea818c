# Writes OUT, a header with the commit of SOURCE, if it changed. Outside a git checkout the environment's
# FACET_COMMIT tells, else it is "unknown".
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "$ENV{FACET_COMMIT}")
endif()
if(NOT commit MATCHES "^[0-9A-Za-z._-]+$")
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#pragma once\n#define FACET_COMMIT \"${commit}\"\n")
