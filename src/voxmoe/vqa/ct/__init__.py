"""Questions, answers and reports about CT volumes: one schema for published sets, own data and phantoms."""
