"""How EM climbed: the log-likelihood after each iteration."""

ax = plotting.plot_em_trace(fit.em.history)
