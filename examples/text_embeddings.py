"""Which loss for my text embeddings? Text retrieval without a network.

python examples/text_embeddings.py        10 epochs of each loss; another number as an argument

The text is real and already here: the docstrings of Python's standard library, each labelled with its module.
TF-IDF and a truncated SVD make 128 numbers of each; put the rows of a sentence encoder in their place.
Modules are split class-disjoint: the head learns on some, and retrieval is measured on others. A file of your own
gets the full report from `lossgauge study`, with `datasets: [embeddings:PATH]` in the study file.
"""

import inspect
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import lossgauge as lg
from lossgauge.data.embeddings import load
from lossgauge.data.features import centered
from lossgauge.data.samplers import (
    random_batches,
    share_without_positive,
    warning_of_anchors_without_positive,
)
from lossgauge.plan.study import Plan
from lossgauge.results.writer import Store
from lossgauge.study.run.execute import execute
from lossgauge.study.schedule.runs import plan_runs

MODULES = """argparse ast asyncio base64 calendar collections configparser csv datetime decimal difflib email.message
fractions ftplib functools gzip hashlib html.parser http.client http.cookies http.server imaplib inspect io ipaddress
itertools json logging mailbox math multiprocessing.pool operator os pathlib pickle plistlib random re sched selectors
shutil smtplib socket socketserver sqlite3 ssl statistics string subprocess tarfile tempfile textwrap threading time
tokenize traceback types typing unittest urllib.parse urllib.request uuid weakref xml.dom.minidom xml.sax.handler
xmlrpc.client zipfile"""
LEAST_TEXTS = 8


def main(epochs: int = 10) -> None:
    texts, labels = documents()
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(texts)
    embeddings = TruncatedSVD(128, random_state=0).fit_transform(words)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "docstrings.npz"
        # a text of unknown words has no direction
        known = np.linalg.norm(embeddings, axis=1) > 1e-6
        np.savez(path, embeddings=embeddings[known], labels=np.array(labels)[known])
        given = load(path)
        describe(given)
        study(given, Path(folder) / "study", epochs)


def documents() -> tuple[list[str], list[str]]:
    """Docstrings of what each module defines, once each, and the name of their module."""
    texts: dict[str, str] = {}
    for module in MODULES.split():
        found = [text for text in dict.fromkeys(docstrings(module)) if text not in texts]
        if len(found) >= LEAST_TEXTS:
            texts |= dict.fromkeys(found, module)
    return list(texts), list(texts.values())


def docstrings(module: str) -> Iterator[str]:
    """Docstrings of five words and more of a module's public functions, classes and methods."""
    for name, thing in vars(import_module(module)).items():
        if name.startswith("_") or getattr(thing, "__module__", module) != module:
            continue
        methods = vars(thing).values() if inspect.isclass(thing) else ()
        for documented in (thing, *methods):
            text = documented.__doc__ if callable(documented) else None
            if isinstance(text, str) and len(text.split()) >= 5:
                yield text


def describe(given) -> None:
    """The space as it is, before any training."""
    rows = torch.nn.functional.normalize(given.features[given.test])
    labels = given.labels[given.test]
    geometry, found = lg.geometry(rows, labels), lg.retrieval(rows, labels)
    print(
        f"{len(given.labels)} texts of {len(given.labels.unique())} modules, {given.protocol} split "
        f"{len(given.train)}/{len(given.test)}"
    )
    print(
        f"as given: R@1 {found.recall_at[1]:.1%}, MAP@R {found.map_at_r:.1%}, intra {geometry.intra:.3f}, "
        f"inter {geometry.inter:.3f}, effective rank {geometry.effective_rank:.1f}"
    )
    batches = random_batches(given.train, batch_size=64, seed=0, epoch=1)
    alone = share_without_positive([given.labels[batch] for batch in batches])
    print(
        f"random batches of 64: {warning_of_anchors_without_positive(alone) or f'{alone:.1%} alone'}"
    )


def study(given, folder: Path, epochs: int) -> None:
    """Three losses beside the untrained head, two seeds each."""
    plan = Plan(
        datasets=[given.dataset],
        losses=["triplet", "info_nce", "scl"],
        seeds=2,
        epochs=epochs,
        batch_size=64,
        learning_rate=1e-3,
        retrieval_every=epochs,
    )
    store, features = Store(folder), centered(given)
    print("loss        seed   R@1    MAP@R  intra  inter")
    with store.exclusive_lock():
        for run in plan_runs(plan, features):
            row = execute(run, features, store, on_epoch=lambda epoch: None)
            print(
                f"{run.loss.title:10} {run.seed:5} {row['recall_at_1']:6.1%} {row['map_at_r']:6.1%} "
                f"{row['test_intra']:6.3f} {row['test_inter']:6.3f}"
            )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of old modules, on import
    main(*map(int, sys.argv[1:]))
