"""Commands on the catalogue at rest: subset, synthesize, show."""

import sys
