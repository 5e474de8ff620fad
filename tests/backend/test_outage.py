import logging

import pytest
from redis.exceptions import ConnectionError as BrokerAway

from backend.outage import Outage


def test_a_broker_that_is_away_is_told_once_and_once_more_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(logging.getLogger("trainer"))
    outage.ends()
    for _ in range(2):
        for _ in range(100):
            outage.goes_on(BrokerAway("refused"))
        outage.ends()
        outage.ends()
    told = [record.getMessage() for record in caplog.records]
    assert ["answers again" in one for one in told] == [False, True, False, True]
    assert "refused" in told[0]
