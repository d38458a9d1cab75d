"""Model repositories: where version folders live, and the manifest each one holds."""
