"""The probe where there are no classes: super resolution of a photo with a small network of coordinates.

python examples/super_resolution.py          1,500 steps, three seeds: some minutes; other numbers of steps and of seeds as arguments

A network learns the color at each place from every second pixel of every second row, and the other pixels are held out (implicit
representations, arXiv 2601.17723). Expected: L1's gradient stays active, because its length does not depend on the error; MSE's fades with the
error; a Sobel term helps edges a little; and seeds and the recipe (how fine the Fourier features are) move PSNR more than the loss does.
"""

import sys

import torch
from sklearn.datasets import load_sample_image
from torch.nn.functional import conv2d, l1_loss, mse_loss

import lossgauge as lg

SIZE = 96
RECIPES = {"coarse": 4.0, "fine": 10.0}  # standard deviation of the frequencies
SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8


def slopes(image):
    """Horizontal and vertical slopes of an image of rows × columns × colors."""
    kernels = torch.stack((SOBEL, SOBEL.T))[:, None]
    return conv2d(image.permute(2, 0, 1)[:, None], kernels)


def l1_and_sobel(found, wanted):
    both = (slopes(z.reshape(SIZE // 2, SIZE // 2, 3)) for z in (found, wanted))
    return l1_loss(found, wanted) + 0.5 * l1_loss(*both)


LOSSES = {"L1": l1_loss, "L1 + Sobel": l1_and_sobel, "MSE": mse_loss}


def train(image, places, loss, scale, steps, seed):
    """PSNR of held-out pixels and of those on edges, and the rows of the probe."""
    torch.manual_seed(seed)
    frequencies = scale * torch.randn(2, 64)
    layers = [part for _ in range(2) for part in (torch.nn.Linear(128, 128), torch.nn.ReLU())]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(128, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    probe = lg.Probe(optimizer)
    criterion = probe.loss(loss)

    def colors(at):
        waves = 2 * torch.pi * at @ frequencies
        return network(torch.cat((waves.sin(), waves.cos()), dim=1))

    known = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    known[::2, ::2] = True
    for _ in range(steps):
        found = probe.embeddings(colors(places[known]))  # no labels: each row is a pixel
        optimizer.zero_grad()
        criterion(found, image[known]).backward()
        optimizer.step()
    with torch.no_grad():
        whole = colors(places.reshape(-1, 2)).reshape(SIZE, SIZE, 3)
    steep = torch.zeros(SIZE, SIZE)
    steep[1:-1, 1:-1] = slopes(image).square().sum(dim=(0, 1)).sqrt()
    edges = ~known & (steep > steep.quantile(0.9))
    errors = (mse_loss(whole[some], image[some]) for some in (~known, edges))
    return *(float(-10 * error.log10()) for error in errors), probe.rows


def main(steps=1500, seeds=3):
    photo = torch.tensor(load_sample_image("china.jpg")).float() / 255
    image = photo[100 : 100 + 2 * SIZE : 2, 250 : 250 + 2 * SIZE : 2]
    axis = torch.linspace(0, 1, SIZE)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    print(
        "recipe  loss        PSNR of held-out pixels (of each seed), of edges, gradients at the end"
    )
    found = torch.zeros(len(RECIPES), len(LOSSES), seeds)
    for row, (recipe, scale) in enumerate(RECIPES.items()):
        for column, (name, loss) in enumerate(LOSSES.items()):
            runs = [train(image, places, loss, scale, steps, seed) for seed in range(seeds)]
            whole, edges, rows = zip(*runs, strict=True)
            found[row, column] = torch.tensor(whole)
            active = sum(of[-1]["gradient_active_ratio_high"] for of in rows) / seeds
            left = sum(of[-1]["embedding_gradient"] / of[0]["embedding_gradient"] for of in rows)
            print(
                f"{recipe:7} {name:11} {sum(whole) / seeds:.2f} ({' '.join(f'{one:.2f}' for one in whole)}), "
                f"{sum(edges) / seeds:.2f}, {active:.0%} active, {left / seeds:.1%} of the first"
            )
    for what, values, part in (
        ("loss", found.mean(dim=2), 1),
        ("recipe", found.mean(dim=2), 0),
        ("seed", found, 2),
    ):
        moved = (values.amax(dim=part) - values.amin(dim=part)).mean()
        print(f"moved by the {what}, mean: {moved:.2f} dB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
