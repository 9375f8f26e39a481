"""What a folder of policies may hold. Apart from the modules that read YAML, for those that only carry documents about."""

from typing import Final

CASES: Final = "cases"  # the folder in it
FILE_BYTES_MAX: Final = 2_000_000  # the parser reads about 300 kB a second; 300 rules and 200 deployments are 100 kB
FOLDER_BYTES_MAX: Final = 4_000_000  # of all files together: what is still read within the time that a reload may take
FILES_MAX: Final = 100  # of one folder; a policy has a handful
