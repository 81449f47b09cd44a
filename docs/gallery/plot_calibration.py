"""Do regions hold the truth as often as they promise? A curve below the diagonal is too sure of itself."""

origins = cells.obs["true_location"].to_numpy()
levels = trust.cell_positions(fit).credible_levels(origins)
promised = np.linspace(0.05, 0.95, 19)
held = np.array([(levels < mass).mean() for mass in promised])
ax = plotting.plot_calibration(promised, held, label="tempered")
