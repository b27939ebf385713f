"""The panel: gene programmes with plausible public symbols, and the driver genes that act on the picture.

Programmes are sets of symbols known as markers; loadings are drawn. Identifiers have Ensembl's form but lie in a range
that Ensembl does not use (``ENSG00009…``), so that no simulated gene can be taken for a real one. A symbol has the same one in
every study, so a model of one study knows the genes of another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.keys import SIMULATED_GENE
from spatia.simulate.celltypes import TYPE_NAMES
from spatia.simulate.randomness import Stream, generator

PROGRAMS: dict[str, str] = {
    "epithelial": "EPCAM CDH1 KRT8 KRT18 KRT19 KRT7 CLDN4 CLDN3 CLDN7 ELF3 ESRP1 TACSTD2 CD9 MUC1 OCLN DSP",
    "tumour": "ERBB2 FOXA1 GATA3 ESR1 CCND1 TFF1 TFF3 AGR2 XBP1 CEACAM6 FASN SCD ABCC11 SERHL2 CEACAM8 MLPH TCIM MDM2",
    "luminal": "KIT SLPI LTF ELF5 ALDH1A3 PIGR PROM1 SERPINB4 KRT15 KRT23 ANKRD30A PGR AREG OPRPN STC2 WFDC2",
    "myoepithelial": "KRT5 KRT14 KRT17 MYLK OXTR TP63 ACTG2 DST CNN1 KRT6B SFN KLK5 DSC3 LAMB3 COL17A1 ITGB4",
    "fibroblast": "LUM DCN PDGFRA COL1A1 COL1A2 COL3A1 FBLN1 SFRP4 CCDC80 MMP2 SFRP1 IGF1 PDPN CXCL12 GPC3 C7",
    "endothelial": "PECAM1 VWF CLEC14A CAVIN2 KDR CD93 EGFL7 ESM1 RAMP2 HOXD9 SOX17 MMRN2 CLDN5 EMCN AQP1 TIE1",
    "pericyte": "ACTA2 TAGLN RGS5 PDGFRB NDUFA4L2 MCAM MYH11 AVPR1A ANGPT2 NOTCH3 COX4I2 HIGD1B CSPG4 DES SYNM LMOD1",
    "macrophage": "CD68 CD163 CD14 FCGR3A AIF1 C1QA C1QC MRC1 APOC1 LYZ ITGAX CD4 IGSF6 FGL2 MNDA HAVCR2 CD86 SPP1",
    "t_cell": "CD3E CD3D CD3G CD2 CD8A CD8B TRAC IL7R CD5 CD247 TCF7 LEF1 CCR7 SELL TRBC1 THEMIS LCK CD27",
    "b_cell": "MS4A1 CD19 CD79A CD79B BANK1 PAX5 CXCR5 FCRL1 TNFRSF13C CD22 BLK FCER2 CR2 SPIB HLA-DQA1 CD83",
    "plasma": "MZB1 JCHAIN TNFRSF17 PRDM1 SLAMF7 CD38 DERL3 IRF4 TENT5C POU2AF1 PIM2 FCRL5 SDC1 SSR4 FKBP11",
    "immune": "PTPRC CORO1A LCP1 CD52 CYTIP RAC2 CD53 ITGB2 LAPTM5 CXCR4",
    "emt": "VIM ZEB1 ZEB2 SNAI2 FN1 TWIST1 SERPINE1 CDH2 LAMC2 TGFBI ITGA5 INHBA MMP14 SPARC TNC AXL",
    "proliferation": "MKI67 TOP2A CENPF PCNA STMN1 CCNB1 BIRC5 TUBA1B HMGB2 TYMS UBE2C CDK1 MCM2 RRM2 CDC20 AURKA",
    "activation": "GZMB PRF1 IFNG NKG7 TIGIT PDCD1 CTLA4 LAG3 CXCL13 TNFRSF9 CXCL9 CXCL10 IDO1 FAP POSTN CTHRC1 STAT1 CD69",
    "hypoxia": "CA9 VEGFA SLC2A1 NDRG1 ADM ANGPTL4 LDHA PGK1 BNIP3 HK2 EGLN3 P4HA1 ENO1 PDK1 ANKRD37 PFKFB4",
    "housekeeping": (
        "LMNA ATP1A1 EEF2 RPS6 ACTB GAPDH B2M TUBB LMNB1 HSP90AB1 UBC YWHAZ HNRNPC TBP SDHA HPRT1 PPIA RPL13 EIF4A1 PSMB4 "
        "SRSF1 CALR CANX CTNNB1 JUN FOS EGR1 MYC MAPK1 AKT1 PTEN RB1 TP53 BRCA1 ATM BCL2 MCL1 BAX CASP3 HIF1A NFKB1 "
        "RELA STAT3 JAK1 SMAD3 NOTCH1 HES1 CTSB CTSD LAMP1 SQSTM1 HMOX1 SOD2 CAT GPX4 TXN PRDX1 NQO1 FTL FTH1 TFRC"
    ),
}
# type -> (programme, activity); states are added by `expression.activities`
TYPE_ACTIVITY: dict[str, dict[str, float]] = {
    "tumour": {"epithelial": 0.9, "tumour": 1.0, "luminal": 0.2},
    "luminal": {"epithelial": 1.0, "luminal": 1.0, "tumour": 0.35, "myoepithelial": 0.1},
    "myoepithelial": {"epithelial": 0.35, "myoepithelial": 1.0, "pericyte": 0.35, "luminal": 0.15},
    "fibroblast": {"fibroblast": 1.0, "emt": 0.25, "pericyte": 0.15},
    "endothelial": {"endothelial": 1.0, "emt": 0.12, "pericyte": 0.15, "fibroblast": 0.1},
    "pericyte": {"pericyte": 1.0, "fibroblast": 0.45, "emt": 0.12, "endothelial": 0.12},
    "macrophage": {"macrophage": 1.0, "immune": 0.8, "fibroblast": 0.08},
    "t_cell": {"t_cell": 1.0, "immune": 1.0, "b_cell": 0.12},
    "b_cell": {"b_cell": 1.0, "immune": 0.9, "t_cell": 0.12, "plasma": 0.12},
    "plasma": {"plasma": 1.0, "immune": 0.4, "b_cell": 0.25},
}


@dataclass(frozen=True)
class Driver:
    """A gene whose latent expression moves one morphology feature: ``feature += effect · z(gene)``."""

    gene: str
    feature: str
    effect: float
    reference: float  # latent expression (counts of a typical cell) at which z = 0


DRIVERS = (
    Driver("LMNA", "nucleus_area", 0.20, 3.0),
    Driver("ACTB", "cell_area", 0.20, 4.0),
    Driver("TUBB", "elongation", 0.18, 3.0),
    Driver("LMNB1", "nucleus_elongation", -0.12, 3.0),
    Driver("HMGB2", "chromatin", 0.25, 3.0),
    Driver("SRSF1", "dapi", 0.18, 3.0),
    Driver("ATP1A1", "boundary", 0.25, 4.0),
    Driver("CDH1", "boundary", 0.18, 3.0),
    Driver("EEF2", "rna", 0.25, 4.0),
    Driver("VIM", "protein", 0.25, 3.0),
    Driver("HSP90AB1", "protein", 0.20, 3.0),
)
DRIVER_GENES = tuple(driver.gene for driver in DRIVERS)


@dataclass(frozen=True)
class Panel:
    """The genes of a study.

    Parameters
    ----------
    symbols, gene_ids
        Names, (genes,).
    baseline
        Expression without any programme, counts per typical cell, (genes,).
    loadings
        Expression that a programme at activity 1 adds, (programmes, genes).
    dispersion
        Shape of the gamma noise, (genes,); the variance of the counts is ``mean + mean² / shape``.
    """

    symbols: tuple[str, ...]
    gene_ids: tuple[str, ...]
    programs: tuple[str, ...]
    baseline: NDArray[np.float64]
    loadings: NDArray[np.float64]
    dispersion: NDArray[np.float64]

    def columns(self, symbols: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the positions of genes in the panel."""
        position = {symbol: column for column, symbol in enumerate(self.symbols)}
        return np.array([position[symbol] for symbol in symbols], np.int64)


def choose_symbols(n_genes: int) -> list[str]:
    """Choose drivers first, then programmes in turn, then made-up fillers (``SIMG0001`` …); a larger panel begins with the smaller one."""
    chosen = list(DRIVER_GENES)
    lists = [text.split() for text in PROGRAMS.values()]
    for rank in range(max(map(len, lists))):
        chosen += [genes[rank] for genes in lists if rank < len(genes) and genes[rank] not in chosen]
    chosen = list(dict.fromkeys(chosen))[:n_genes]
    return chosen + [f"SIMG{number:04d}" for number in range(1, n_genes - len(chosen) + 1)]


def make_panel(n_genes: int, seed: int) -> Panel:
    """Draw the panel of a study: loadings of every programme, baselines and dispersions."""
    ids = {symbol: f"{SIMULATED_GENE}{number:06d}" for number, symbol in enumerate(choose_symbols(n_genes))}
    symbols = sorted(ids)
    rng = generator(seed, Stream.PROGRAMS)
    baseline = 0.06 * rng.lognormal(0, 0.6, n_genes)
    loadings = np.zeros((len(PROGRAMS), n_genes))
    member = {name: set(text.split()) for name, text in PROGRAMS.items()}
    for row, name in enumerate(PROGRAMS):
        inside = np.array([symbol in member[name] for symbol in symbols])
        loadings[row] = inside * rng.lognormal(np.log(1.1 if name != "housekeeping" else 0.7), 0.7, n_genes)
    housekeeping = list(PROGRAMS).index("housekeeping")
    baseline += loadings[housekeeping]
    loadings[housekeeping] = 0
    dispersion = np.full(n_genes, 4.0)
    for driver in DRIVERS:
        column = symbols.index(driver.gene)
        dispersion[column] = 1.8
        baseline[column] = driver.reference
        loadings[:, column] = np.where(loadings[:, column] > 0, 2.0 * driver.reference, 0)
    return Panel(
        tuple(symbols), tuple(ids[symbol] for symbol in symbols), tuple(PROGRAMS), baseline, loadings, dispersion
    )


def type_activities() -> NDArray[np.float64]:
    """Return the activity of every programme in every type, (types, programmes)."""
    programs = list(PROGRAMS)
    table = np.zeros((len(TYPE_NAMES), len(programs)))
    for row, name in enumerate(TYPE_NAMES):
        for program, activity in TYPE_ACTIVITY[name].items():
            table[row, programs.index(program)] = activity
    return table
