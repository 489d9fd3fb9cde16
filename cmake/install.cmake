# cmake --install: the program with the bundled model and the documents (component program), and the library with its headers (component library).
include(CMakePackageConfigHelpers)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME program)

install(TARGETS tqkv_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(APPLE AND tqkv_mlx)  # the library and its Metal code, in one folder, and its licence
  get_filename_component(mlx_root ${MLX_DIR}/../../.. ABSOLUTE)
  install(FILES ${mlx_root}/lib/libmlx.dylib ${mlx_root}/lib/mlx.metallib DESTINATION ${CMAKE_INSTALL_LIBDIR}/tqkv)
  file(GLOB mlx_license ${mlx_root}/../mlx_metal-*.dist-info/licenses/LICENSE ${mlx_root}/../mlx_metal-*.dist-info/LICENSE)
  install(FILES ${mlx_license} DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.mlx)
  set_target_properties(tqkv_cli PROPERTIES INSTALL_RPATH "@executable_path/../${CMAKE_INSTALL_LIBDIR}/tqkv")
endif()

# The manual page and the completion scripts come from the program itself.
set(reference ${CMAKE_BINARY_DIR}/reference)
file(MAKE_DIRECTORY ${reference})
add_custom_command(OUTPUT ${reference}/tqkv.1 ${reference}/tqkv.bash ${reference}/_tqkv
                   COMMAND tqkv_cli manual > ${reference}/tqkv.1
                   COMMAND tqkv_cli completion bash > ${reference}/tqkv.bash
                   COMMAND tqkv_cli completion zsh > ${reference}/_tqkv
                   DEPENDS tqkv_cli VERBATIM)
set(built_always ALL)
if(TQKV_SANITIZE AND NOT TQKV_SANITIZE_ALL)
  set(built_always)  # the program is not built
endif()
add_custom_target(reference ${built_always} DEPENDS ${reference}/tqkv.1 ${reference}/tqkv.bash ${reference}/_tqkv)
install(FILES ${reference}/tqkv.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${reference}/tqkv.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME tqkv)
install(FILES ${reference}/_tqkv DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)

install(DIRECTORY models/pocket DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/models)
install(DIRECTORY models/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/models)
install(DIRECTORY models/texts DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/models)  # the text of evaluate
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md" PATTERN "*.svg")

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME library)
install(TARGETS tqkv EXPORT tqkvTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tqkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tqkv)
configure_package_config_file(cmake/tqkvConfig.cmake.in ${CMAKE_BINARY_DIR}/tqkvConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/tqkvConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tqkvConfig.cmake ${CMAKE_BINARY_DIR}/tqkvConfigVersion.cmake DESTINATION ${package_dir})
install(EXPORT tqkvTargets NAMESPACE tqkv:: DESTINATION ${package_dir})

# cpack -G DEB --config build/release/CPackConfig.cmake: the same as a package, with the packages that its shared libraries come from.
set(CPACK_PACKAGE_CONTACT "the tqkv project")
set(CPACK_PACKAGE_VENDOR "tqkv")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR TGZ)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
include(CPack)
