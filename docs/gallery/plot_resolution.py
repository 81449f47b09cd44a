"""How far from its likeliest location a cell may be: the curve that says how many landmarks are enough."""

curves = trust.resolution_curve(fit, [8, 15], n_draws=1, seed=0)
ax = None
for n, rows in curves.groupby("n_landmarks"):
    radii, mass = rows["radius"].to_numpy(), rows["mass"].to_numpy()
    ax = plotting.plot_resolution(radii, mass, label=f"{n} landmarks", ax=ax)
