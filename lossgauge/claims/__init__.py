"""The paper's claims as data, and what a study's rows say of each: supported, contradicted, undecided, not tested."""
