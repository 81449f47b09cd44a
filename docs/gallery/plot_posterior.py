"""Where one cell may be from: the probability of every location, a 90 % region, and the truth (cross)."""

name = cells.obs_names[3]
where = trust.cell_positions(fit)
ax = plotting.plot_posterior(
    fit.posterior([name]).to_numpy()[0],
    places,
    region=where.region(name, 0.9),
    truth=int(cells.obs.loc[name, "true_location"]),
    title=name,
)
