"""What every other part of the package stands on: options, configuration, errors, files, devices."""
