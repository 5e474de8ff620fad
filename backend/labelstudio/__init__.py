"""Label Studio's side: labeling configuration, brush masks, tasks, images."""
