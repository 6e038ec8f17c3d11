from tests.support.studies import make_study  # noqa: F401  # until the imports of it are changed
