"""The programs that the launchers start: the only package that imports torch; of ours it imports the contract only."""
