"""Programs over many hosts, beside the same programs in one process. See README.md here."""
