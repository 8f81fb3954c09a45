"""Files become studies here: volumes in one RAS world, checked, cropped and resampled; atlases; phantoms."""
