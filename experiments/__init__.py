"""Programs that use the library: paper tables, credit laboratory, benchmark, pretraining of the embedded model."""
