"""The surface that tuning climbs, over alpha and beta, and its path (the numbers here are made up)."""

alpha, beta = np.geomspace(0.01, 1, 20), np.geomspace(0.05, 5, 20)
surface = -((np.log(alpha[:, None] / 0.1)) ** 2) - (np.log(beta[None, :] / 0.4)) ** 2 / 2
path = np.array([[0.5, 2.0], [0.2, 1.0], [0.1, 0.4]])
ax = plotting.plot_objective(alpha, beta, surface, path=path)
