# Compiles through ccache if it is installed and no launcher was chosen. ccache needs this sloppiness for precompiled headers. Paths
# are relative to the project, so that every clone can use the cache, and the compiler itself says what a file includes.
# -DTQKV_CCACHE=OFF compiles everything again.
option(TQKV_CCACHE "compile through ccache where it is installed" ON)
find_program(TQKV_CCACHE_PROGRAM ccache)
mark_as_advanced(TQKV_CCACHE_PROGRAM)
if(TQKV_CCACHE AND TQKV_CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 ${TQKV_CCACHE_PROGRAM})
endif()
