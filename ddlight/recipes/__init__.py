"""Published training recipes as explicit numbers: budget, schedule, augmentation, optimiser."""
