"""What lies on disk between the stages: folders, parts, manifests, subsets, runs."""
