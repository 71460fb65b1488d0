"""Programs that use the library: paper tables, study, credit laboratory, benchmarks."""
