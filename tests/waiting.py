from tests.support.waiting import PATIENCE, wait_for  # noqa: F401  # until the imports of it are changed
