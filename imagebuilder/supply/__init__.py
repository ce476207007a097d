"""What an image is made from: the tree, and the packages of the tree and of its feeds, each trusted for a
reason. Joins downloads, signatures, indexes and staging, so that the pipeline need not."""
