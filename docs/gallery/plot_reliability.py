"""The score that was foretold for each gene against the one that it got."""

believe = trust.gene_reliability(fit, seed=0)
unseen = truth.var.query("not landmark and `class` != 'unspatial'").index
actual = result[:, unseen].to_df().corrwith(truth[:, unseen].to_df())
some = believe.loc[unseen]
ax = plotting.plot_reliability(
    some["predicted"].to_numpy(float),
    actual.to_numpy(float),
    lower=some["predicted_lower"].to_numpy(float),
    upper=some["predicted_upper"].to_numpy(float),
    genes=list(unseen),
    score="correlation with the truth",
)
