"""The folder of each published model, to test with."""

from tests.unit.bench.published import gene_folders, image_folders
from tests.unit.bench.published.layouts import Writer

WRITERS: dict[str, Writer] = {
    "geneformer": gene_folders.write_geneformer,
    "scgpt": gene_folders.write_scgpt,
    "uce": gene_folders.write_uce,
    "cellplm": gene_folders.write_cellplm,
    "nicheformer": gene_folders.write_nicheformer,
    "scfoundation": gene_folders.write_scfoundation,
    "uni": image_folders.write_uni,
    "gigapath": image_folders.write_gigapath,
    "hipt": image_folders.write_hipt,
    "conch": image_folders.write_conch,
}
