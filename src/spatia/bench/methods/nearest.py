"""k nearest training cells instead of a fitted predictor, in the space of what may be read."""

from spatia.bench.methods import concatenation, morphology, pca
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method

KNN_GENES = Method("knn on pca", GENES, pca.embed, "15 nearest training cells by PCA of counts", predictor="knn")
KNN_IMAGE = Method(
    "knn on morphology", IMAGE, morphology.embed, "15 nearest by morphology", predictor="knn", measures=True
)
KNN_BOTH = Method(
    "knn on pca + morphology", BOTH, concatenation.embed, "15 nearest by both", predictor="knn", measures=True
)
