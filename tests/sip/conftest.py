"""The lab's modules lie beside their program, outside every package."""

import sys
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "examples" / "sip-lab"
if str(LAB) not in sys.path:
    sys.path.insert(0, str(LAB))
