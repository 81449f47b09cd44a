# Rscript seurat.R version | FOLDER DIMS
# FOLDER holds cells.csv and locations.csv (log expression, a column per gene, the landmarks first in both);
# predicted.csv is written: locations x the genes that only the cells have.
suppressPackageStartupMessages(library(Seurat))
arguments <- commandArgs(trailingOnly = TRUE)
if (arguments[1] == "version") {
  cat(as.character(packageVersion("Seurat")))
  quit(status = 0)
}
folder <- arguments[1]
dims <- as.integer(arguments[2])

object_of <- function(file, prefix) {
  values <- t(as.matrix(read.csv(file.path(folder, file), check.names = FALSE)))
  colnames(values) <- paste0(prefix, seq_len(ncol(values)))
  object <- CreateSeuratObject(counts = values)
  SetAssayData(object, slot = "data", new.data = as(values, "dgCMatrix"))
}

cells <- object_of("cells.csv", "cell")
locations <- object_of("locations.csv", "location")
landmarks <- rownames(locations)
wanted <- setdiff(rownames(cells), landmarks)
cells <- ScaleData(cells, features = landmarks, verbose = FALSE)
locations <- ScaleData(locations, features = landmarks, verbose = FALSE)
# The settings of its authors for located cells: CCA, no filter of anchors.
anchors <- FindTransferAnchors(
  reference = cells, query = locations, features = landmarks, reduction = "cca",
  dims = 1:dims, npcs = dims, k.filter = NA, verbose = FALSE
)
expression <- GetAssayData(cells, slot = "data")[wanted, , drop = FALSE]
transferred <- TransferData(
  anchorset = anchors, refdata = expression, weight.reduction = "cca", dims = 1:dims, verbose = FALSE
)
values <- t(as.matrix(GetAssayData(transferred, slot = "data")))
colnames(values) <- wanted
write.csv(values, file.path(folder, "predicted.csv"), row.names = FALSE)
