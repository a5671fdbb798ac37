# Every scenario of this directory becomes tests of its own: LABEL.NAME.root and LABEL.NAME.user, listed in
# PCACHE_SCENARIO_TESTS. Further arguments go to run.py.
function(pcache_scenarios label)
  find_program(PCACHE_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  set(python ${Python3_EXECUTABLE})
  if(PCACHE_PYTHON) # the system's: another user can run it too
    set(python ${PCACHE_PYTHON})
  endif()
  set(runner ${PROJECT_SOURCE_DIR}/tests/scenarios/run.py)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.py
       ${PROJECT_SOURCE_DIR}/tests/scenarios/harness/*.py)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${runner} ${sources})
  execute_process(COMMAND ${python} ${runner} ${CMAKE_CURRENT_SOURCE_DIR} list
                  OUTPUT_VARIABLE lines RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    message(FATAL_ERROR "The scenarios of ${CMAKE_CURRENT_SOURCE_DIR} cannot be listed.")
  endif()
  string(REPLACE "\n" ";" lines "${lines}")
  foreach(line IN LISTS lines)
    string(REPLACE " " ";" words "${line}")
    list(GET words 0 name)
    list(GET words 1 user)
    list(GET words 2 timeout)
    if("by_hand" IN_LIST words)
      continue()
    endif()
    add_test(NAME ${label}.${name}.${user}
             COMMAND ${python} ${runner} ${CMAKE_CURRENT_SOURCE_DIR} ${name}
                     --programs $<TARGET_FILE_DIR:pcache> --as ${user} ${ARGN})
    list(APPEND tests ${label}.${name}.${user})
    set_tests_properties(${label}.${name}.${user} PROPERTIES
                         TIMEOUT ${timeout} SKIP_RETURN_CODE 77 LABELS ${label})
  endforeach()
  set(PCACHE_SCENARIO_TESTS ${tests} PARENT_SCOPE)
endfunction()
