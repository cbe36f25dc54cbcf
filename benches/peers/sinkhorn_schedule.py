#!/usr/bin/env python3
"""What geomloss' schedule of the Sinkhorn divergence does to values and to training, on real cells; nothing of ours runs here.

    sinkhorn_schedule.py values PLANE.h5ad        divergences of days beside exact transport (PLANE.h5ad: larry_plane.py)
    sinkhorn_schedule.py training CELLS.h5ad      the loss of an ODE along training, with several blurs and scalings

Training is scDiffEq's without noise: the gradient of a potential of two layers of 64, from day 2 through days 4 and 6 in Euler
steps of 0.1, 50 components of z-scores, RMSprop, gradients clipped at 0.5. One thread.
"""

import argparse

import anndata
import numpy as np
import torch
from geomloss import SamplesLoss
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

VALUES = [(0.05, 0.5), (0.05, 0.9), (0.5, 0.5), (0.5, 0.7), (0.5, 0.9)]
TRAINING = [(0.05, 0.5), (0.05, 0.9), (5.0, 0.7)]


def loss(blur, scaling):
    return SamplesLoss("sinkhorn", p=2, blur=blur, scaling=scaling, backend="tensorized")


def values(data, cells=512):
    """Divergences of two samples of cells: of two days, and of one."""
    places = data.X - data.X.mean(0)
    places *= 5 / np.sqrt((places**2).mean())
    rng = np.random.default_rng(0)
    days = {day: places[rng.permutation(np.where(data.obs["day"] == day)[0])[: 2 * cells]] for day in (2, 4, 6)}
    pairs = {"2, 4": (days[2][:cells], days[4][:cells]), "2, 6": (days[2][:cells], days[6][:cells])}
    pairs |= {f"{day}, {day}": (days[day][:cells], days[day][cells:]) for day in (4, 6)}
    print("| days | exact |", " | ".join(f"{b}, {s}" for b, s in VALUES), "|")
    for name, (x, y) in pairs.items():
        cost = cdist(x, y, "sqeuclidean") / 2
        found = [cost[linear_sum_assignment(cost)].mean()]
        found += [loss(b, s)(torch.tensor(x), torch.tensor(y)).item() for b, s in VALUES]
        print("|", name, "|", " | ".join(f"{v:.2f}" for v in found), "|", flush=True)


def training(data, epochs=41, lr=3e-3, width=64):
    """The loss in every eighth epoch."""
    x = np.asarray(data.X.todense() if hasattr(data.X, "todense") else data.X, dtype=np.float64)
    sd = x.std(0, ddof=1)
    places = PCA(50, random_state=0).fit_transform((x - x.mean(0)) / np.where(sd > 0, sd, 1))
    day = data.obs["time_info"].astype(str).astype(float).to_numpy()
    for blur, scaling in TRAINING:
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        groups = {d: rng.permutation(np.where(day == d)[0]) for d in (2, 4, 6)}
        largest = max(map(len, groups.values()))
        one, two, out = torch.nn.Linear(50, width), torch.nn.Linear(width, width), torch.nn.Linear(width, 1, bias=False)
        weights = [*one.parameters(), *two.parameters(), *out.parameters()]
        optimiser, divergence, seen = torch.optim.RMSprop(weights, lr=lr), loss(blur, scaling), []

        def drift(z):
            first = one(z)
            second = two(torch.nn.functional.softplus(first))
            v = (torch.sigmoid(second) * out.weight) @ two.weight
            return (torch.sigmoid(first) * v) @ one.weight

        for epoch in range(epochs):
            rows = {d: np.r_[g, rng.choice(g, largest - len(g))] for d, g in groups.items()}
            cells = {d: torch.tensor(places[r], dtype=torch.float32) for d, r in rows.items()}
            z, total = cells[2], 0
            for step in range(1, 41):
                z = z + 0.1 * drift(z)
                if step in (20, 40):
                    total = total + divergence(z, cells[2 + step // 10])
            optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(weights, 0.5)
            optimiser.step()
            if epoch % 8 == 0:
                seen.append(total.item())
        print(f"| {blur}, {scaling} |", " | ".join(f"{v:.0f}" for v in seen), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description="geomloss' schedule on real cells")
    parser.add_argument("what", choices=["values", "training"])
    parser.add_argument("cells")
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"values": values, "training": training}[args.what](anndata.read_h5ad(args.cells))


if __name__ == "__main__":
    main()
