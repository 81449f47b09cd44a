"""A slow port of the paper in NumPy loops, one function per equation: what the fast code must equal."""

import numpy as np


def metagenes(cells, reference, n):
    """Eqs. 4-7, with the cells x locations matrix formed and decomposed."""
    u, s, vt = np.linalg.svd(cells @ reference.T, full_matrices=False)
    return u[:, :n] * s[:n], vt[:n].T * s[:n]


def log_normal(x, mean, noise):
    """ln N(x | mean, diag noise^2)."""
    total = 0.0
    for xi, mi, si in zip(x, mean, noise, strict=True):
        total += -0.5 * np.log(2 * np.pi) - np.log(si) - 0.5 * ((xi - mi) / si) ** 2
    return total


def log_joint(x, a, b, sigma, pi, r):
    """ln pi_k + ln N(x_n | a r_k + b, Sigma), cells x locations (inside Eq. 10)."""
    table = np.zeros((len(x), len(r)))
    for n in range(len(x)):
        for k in range(len(r)):
            table[n, k] = np.log(pi[k]) + log_normal(x[n], a * r[k] + b, sigma)
    return table


def log_density(x, a, b, sigma, pi, r):
    """ln p(x_n) of Eq. 8."""
    table = log_joint(x, a, b, sigma, pi, r)
    top = table.max(axis=1)
    return top + np.log(np.exp(table - top[:, None]).sum(axis=1))


def responsibilities(x, a, b, sigma, pi, r):
    """Eq. 11."""
    return np.exp(log_joint(x, a, b, sigma, pi, r) - log_density(x, a, b, sigma, pi, r)[:, None])


def statistics(gamma, x, r):
    """phi, chi, psi, omega of Eqs. 16-19, with r_ki where the paper prints r_ni."""
    phi, chi, psi, omega = (np.zeros(x.shape[1]) for _ in range(4))
    for n in range(len(x)):
        for k in range(len(r)):
            phi += gamma[n, k] * x[n]
            chi += gamma[n, k] * r[k]
            psi += gamma[n, k] * x[n] * r[k]
            omega += gamma[n, k] * r[k] ** 2
    return phi, chi, psi, omega


def weighted_least_squares(gamma, x, r):
    """What Eqs. 13-15 solve: the line of x on r over all pairs, weighted by gamma, per metagene."""
    a, b, sigma = (np.zeros(x.shape[1]) for _ in range(3))
    weight = np.sqrt(gamma).ravel()
    for i in range(x.shape[1]):
        targets = np.repeat(x[:, i], len(r))
        design = np.stack([np.tile(r[:, i], len(x)), np.ones(gamma.size)], axis=1)
        solution = np.linalg.lstsq(design * weight[:, None], targets * weight, rcond=None)[0]
        a[i], b[i] = solution
        sigma[i] = np.sqrt((gamma.ravel() * (targets - design @ solution) ** 2).sum() / len(x))
    return a, b, sigma


def location_weights(gamma):
    """pi of Eq. 12, summed over cells (the paper prints the wrong index)."""
    return gamma.sum(axis=0) / len(gamma)


def mahalanobis(x, mu, covariance):
    """Eq. 23."""
    precision = np.linalg.inv(covariance)
    table = np.zeros((len(x), len(mu)))
    for n in range(len(x)):
        for k in range(len(mu)):
            difference = x[n] - mu[k]
            table[n, k] = np.sqrt(difference @ precision @ difference)
    return table


def weights(distance, pi, alpha, beta):
    """Eq. 22."""
    table = np.zeros_like(distance)
    for n in range(len(distance)):
        exponent = -alpha * distance[n] ** 2 - beta * distance[n]
        row = pi * np.exp(exponent - exponent.max())
        table[n] = row / row.sum()
    return table


def weighted_mean(w, y):
    """Eq. 21."""
    table = np.zeros((w.shape[1], y.shape[1]))
    for k in range(w.shape[1]):
        table[k] = (w[:, k, None] * y).sum(axis=0) / w[:, k].sum()
    return table


def correlations(prediction, reference):
    """rho of Eq. 27, per gene."""
    return np.array([np.corrcoef(p, h)[0, 1] for p, h in zip(prediction.T, reference.T, strict=True)])


def mutual_information(rho):
    """J of Eq. 26."""
    return -0.5 * np.log(1 - rho**2).sum()


def auc(prediction, on):
    """ROC AUC by comparing every pair of an expressing and a silent location; a tie is half a win."""
    wins = 0.0
    for high in prediction[on]:
        for low in prediction[~on]:
            wins += 1.0 if high > low else 0.5 if high == low else 0.0
    return wins / (on.sum() * (~on).sum())


def initial_mapping(x, r):
    """Start of EM: a r + b has the mean and variance of x, the noise is as large as x (after Eq. 20)."""
    a = x.std(axis=0) / r.std(axis=0)
    return a, x.mean(axis=0) - a * r.mean(axis=0), x.std(axis=0)


def em(x, r, pi, steps):
    """A fixed number of EM steps, and the log-likelihood before each and at the end (Eqs. 10-15)."""
    a, b, sigma = initial_mapping(x, r)
    history = [log_density(x, a, b, sigma, pi, r).sum()]
    for _ in range(steps):
        a, b, sigma = weighted_least_squares(responsibilities(x, a, b, sigma, pi, r), x, r)
        history.append(log_density(x, a, b, sigma, pi, r).sum())
    return a, b, sigma, np.array(history)


def held_out_prediction(cells, reference, held, steps, alpha, beta, reduce, covariance="fitted"):
    """Delete genes from both sides, redo everything, predict them: step 4 of the method, uniform pi.

    ``reduce`` makes metagenes of the genes that are left, e.g. ``metagenes``; ``covariance`` is "fitted",
    "pooled" (the released program's) or a matrix of landmarks, where every landmark is a metagene.
    """
    x, r = reduce(np.delete(cells, held, axis=1), np.delete(reference, held, axis=1))
    pi = np.full(len(r), 1 / len(r))
    a, b, sigma, _ = em(x, r, pi, steps)
    mu = a * r + b
    if isinstance(covariance, np.ndarray):
        matrix = np.delete(np.delete(covariance, held, axis=0), held, axis=1)
    elif covariance == "pooled":
        matrix = np.cov(np.concatenate([mu, x]), rowvar=False)
    else:
        matrix = np.diag(sigma**2)
    return weighted_mean(weights(mahalanobis(x, mu, matrix), pi, alpha, beta), cells[:, held])
