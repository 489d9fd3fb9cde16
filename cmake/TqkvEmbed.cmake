# Files inside the program. As a script (cmake -DIN=… -DOUT=… -DNAME=… -P TqkvEmbed.cmake) it writes the bytes of a file as C++.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${IN} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
  file(WRITE ${OUT} "#include <cstddef>\nextern const unsigned char ${NAME}[];\nextern const std::size_t ${NAME}_size;\n"
                    "const unsigned char ${NAME}[] = {\n${bytes}};\nconst std::size_t ${NAME}_size = sizeof(${NAME});\n")
  return()
endif()

# Gives a room the bytes of a file and of the same file by gzip, as tqkv_NAME and tqkv_NAME_gzip with their _size.
find_program(TQKV_GZIP gzip REQUIRED DOC "compresses what is embedded")
set(tqkv_embed_script ${CMAKE_CURRENT_LIST_FILE})
function(tqkv_embed room file name)
  string(REPLACE / _ flat ${room})
  set(made ${CMAKE_BINARY_DIR}/embedded)
  file(MAKE_DIRECTORY ${made})
  # -n: neither name nor time, so that equal files give equal bytes.
  add_custom_command(OUTPUT ${made}/${name}.gz COMMAND ${TQKV_GZIP} -9 -n -c ${file} > ${made}/${name}.gz DEPENDS ${file} VERBATIM)
  foreach(kind "" _gzip)
    set(source ${file})
    if(kind)
      set(source ${made}/${name}.gz)
    endif()
    add_custom_command(OUTPUT ${made}/${name}${kind}.cpp COMMAND ${CMAKE_COMMAND} -DIN=${source} -DOUT=${made}/${name}${kind}.cpp -DNAME=tqkv_${name}${kind} -P ${tqkv_embed_script}
                       DEPENDS ${source} ${tqkv_embed_script} VERBATIM)
    target_sources(tqkv_${flat} PRIVATE ${made}/${name}${kind}.cpp)
    set_source_files_properties(${made}/${name}${kind}.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
  endforeach()
endfunction()
