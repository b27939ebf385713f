"""Linear predictors that read values and labels off embeddings, and the spatial folds that they are judged and chosen by."""
