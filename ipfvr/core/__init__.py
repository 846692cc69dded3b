"""The foundation of the package: options, configuration, errors, files, devices."""
