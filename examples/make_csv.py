"""Makes a CSV file of orders, the same one every time.

    python -m examples.make_csv orders.csv --rows 50000

The example makes one by itself; this is for other sizes.
"""

import argparse
import csv
import random
from pathlib import Path

ROWS = 50_000
HEADER = ("order", "customer", "country", "amount")
FIRST_NAMES = ("Ana", "Björn", "Chloé", "Dmitri", "Eun-ji", "Fatima", "Gonçalo", "Hana")
LAST_NAMES = ("Árnason", "Brown", "García", "Ito", 'O"Neill', "Park", "Smith, Jr.", "Yilmaz")
COUNTRIES = ("ES", "FR", "IS", "JP", "KR", "PT", "TR", "US")


def make_csv(path: Path, rows: int = ROWS) -> None:
    """Write `rows` orders to `path`; some names hold commas and quotes, as names do."""
    dice = random.Random(2026)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEADER)
        for order in range(1, rows + 1):
            name = f"{dice.choice(FIRST_NAMES)} {dice.choice(LAST_NAMES)}"
            cents = dice.randrange(100, 100_000)
            amount = f"{cents // 100}.{cents % 100:02}"
            table.writerow((order, name, dice.choice(COUNTRIES), amount))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    said = parser.parse_args()
    make_csv(said.path, said.rows)
