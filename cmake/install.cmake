# cmake --install: the program, the library with its headers, the bundled model, the documents.
include(CMakePackageConfigHelpers)

install(TARGETS tqkv_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS tqkv EXPORT tqkvTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tqkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY models/pocket DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/models)
install(DIRECTORY models/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/models)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/docs FILES_MATCHING PATTERN "*.md")  # text of evaluate
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/tqkv/docs)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tqkv)
configure_package_config_file(cmake/tqkvConfig.cmake.in ${CMAKE_BINARY_DIR}/tqkvConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/tqkvConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tqkvConfig.cmake ${CMAKE_BINARY_DIR}/tqkvConfigVersion.cmake DESTINATION ${package_dir})
install(EXPORT tqkvTargets NAMESPACE tqkv:: DESTINATION ${package_dir})
