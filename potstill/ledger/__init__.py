"""Money: prices, holds and settlements, and the SQLite store they are kept in."""
