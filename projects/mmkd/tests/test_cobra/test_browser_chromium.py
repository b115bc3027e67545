"""The page of frames in Chromium: what a reader sees, clicks and types."""

import shutil
import time
from urllib.parse import quote

import pytest

from mmkd.cobra.browser.page import write_browser
from mmkd.cobra.browser.predictions import Prediction
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame

webdriver = pytest.importorskip('selenium.webdriver', reason='needs selenium to drive Chromium')
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason='needs the programs chromium and chromedriver'
)
FLAGS = (
    'headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking '
    'disable-component-update disable-sync disable-dev-shm-usage'
)
ATTACK = '</script><script>window.taken = 1</script><img src=x onerror="window.taken = 1">'
STRANGE_ID = 'a/b c%20#é?&"<'
PRAISE = 'You finished early today.'


def frame_of(number, **values):
    """A neutral frame."""
    return Frame(
        **{
            'frame_id': f'f{number}',
            'statement_id': f's{number}',
            'statement': f'Good morning, guest {number}.',
            **{name: f'{name} of {number}' for name in CONTEXT + SLOTS},
            'source': 'examples',
            'split': 'val' if number % 2 else 'train',
            'group': 'guests',
            'offensive_bin': 0,
            **values,
        }
    )


def prediction_of(frame, **values):
    """A prediction that repeats the explanation."""
    told = dict(prediction=frame.explanation(), format_ok=True, offensive_bin=0)
    return Prediction(frame_id=frame.frame_id, **{**told, **values})


def examples():
    """120 frames, a pair, hostile texts, and predictions of some."""
    frames = [frame_of(n) for n in range(120)]
    pair = dict(statement=PRAISE, pair_id='p', group='colleagues')
    frames[3] = frame_of(3, **pair, side='B', situation='After a missed deadline', label_majority=1)
    frames[5] = frame_of(5, **pair, side='A', situation='After a hard week', label_majority=0)
    frames[7] = frame_of(7, statement=ATTACK, situation=ATTACK, group=ATTACK, intent=ATTACK)
    frames[9] = frame_of(9, frame_id=STRANGE_ID, group=None)
    long = 'Bravo' + 'o' * 300
    frames[13] = frame_of(13, **dict.fromkeys(('statement', *CONTEXT, *SLOTS), long))
    other = [frame.explanation() for frame in frames[:2]]
    other[0]['intent'], other[1]['power'] = ' intent  of 0 ', 'none at all'
    unread = dict(prediction={'intent': 'x'}, format_ok=False, offensive_bin=None, text='Q')
    made = [
        prediction_of(frames[0], prediction=other[0]),
        prediction_of(frames[1], prediction=other[1]),
        prediction_of(frames[2], **unread),
        prediction_of(frames[3]),
        prediction_of(frames[5], text='a walnut desk'),
        prediction_of(frames[7], format_ok=False, text=ATTACK),
        prediction_of(frames[13], text=long),
    ]
    return frames, {each.frame_id: each for each in made}


@pytest.fixture(scope='module')
def driver(tmp_path_factory):
    """Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp('profile')
    for flag in [*FLAGS.split(), f'user-data-dir={profile}', 'window-size=1300,900']:
        options.add_argument(f'--{flag}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SE_OFFLINE', 'true')
        found = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """Of the page of :func:`examples`."""
    path = tmp_path_factory.mktemp('page') / 'page.html'
    write_browser(path, *examples(), title='Neutral examples')
    return path.as_uri()


@pytest.fixture
def load(driver, address):
    """Loads the page at an id; the test fails for any message in the console."""

    def loaded(frame_id='', accepted=True):
        driver.get('about:blank')
        driver.get(f'{address}#{quote(frame_id, safe="")}' if frame_id else address)
        if accepted:
            driver.find_element('id', 'accept').click()

    yield loaded
    assert driver.get_log('browser') == []


@pytest.fixture
def see(driver):
    """What is shown of the element with an id."""
    return lambda name: driver.find_element('id', name).text


def until(condition):
    """Waits for what follows a short delay of the page."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.02)


def rows(driver):
    """Statements of the list, as they are shown."""
    texts = "return [...document.querySelectorAll('.row-text')].map((row) => row.innerText)"
    return driver.execute_script(texts)


def press(driver, *keys):
    """Presses keys wherever the focus is."""
    ActionChains(driver, duration=0).send_keys(*keys).perform()


@pytest.mark.parametrize('frame_id', ['', 'f5'])
def test_no_text_is_shown_before_the_warning_is_accepted(driver, load, frame_id):
    load(frame_id, accepted=False)
    body = driver.find_element('tag name', 'body')
    assert 'Content warning' in body.text.replace('CONTENT WARNING', 'Content warning')
    assert 'not ground truth' in body.text
    outside = "return document.documentElement.outerHTML.replace(/<script[^]*?<\\/script>/g, '')"
    outside_text = driver.execute_script(outside)
    for text in (body.text, outside_text):
        assert 'guest' not in text and PRAISE not in text and 'window.taken' not in text
    assert not driver.find_element('id', 'app').is_displayed()
    press(driver, Keys.ARROW_RIGHT)
    assert not driver.find_element('id', 'app').is_displayed()
    press(driver, Keys.TAB, Keys.ENTER)
    assert driver.find_element('id', 'app').is_displayed()
    assert len(rows(driver)) == 50 and not driver.find_elements('id', 'warning')
    driver.refresh()
    assert driver.find_element('id', 'warning').is_displayed()
    assert not driver.find_element('id', 'app').is_displayed()


def test_totals_and_pages_of_the_list(driver, load, see):
    load()
    assert see('totals').split('\n') == [
        *('frames', '120', 'predictions', '7', 'parse failures', '2', 'wrong', '2')
    ]
    assert see('found') == 'All 120 frames' and see('page') == '1–50'
    assert rows(driver)[0] == 'Good morning, guest 0.' and len(rows(driver)) == 50
    for _ in range(2):
        driver.find_element('id', 'page-on').click()
    assert see('page') == '101–120' and len(rows(driver)) == 20
    assert not driver.find_element('id', 'page-on').is_enabled()
    driver.find_element('id', 'page-back').click()
    assert see('page') == '51–100' and rows(driver)[0] == 'Good morning, guest 50.'


def test_filters_work_alone_and_together(driver, load, see):
    load()

    def choose(name, text):
        Select(driver.find_element('id', f'filter-{name}')).select_by_visible_text(text)

    choose('group', 'colleagues (2)')
    assert rows(driver) == [PRAISE] * 2 and see('found') == '2 of 120 frames'
    choose('label', 'offensive (1)')
    assert rows(driver) == [PRAISE] and '#f3' in driver.page_source
    choose('group', 'guests (116)')
    assert rows(driver) == [] and see('nothing') == 'No frame fits these filters.'
    driver.find_element('id', 'clear').click()
    until(lambda: see('found') == 'All 120 frames')
    choose('group', 'none given (1)')
    assert rows(driver) == ['Good morning, guest 9.']
    choose('group', 'all')
    choose('split', 'val (60)')
    choose('source', 'examples (120)')
    assert see('found') == '60 of 120 frames' and rows(driver)[0] == 'Good morning, guest 1.'
    driver.find_element('id', 'only-wrong').click()
    assert rows(driver) == [PRAISE]


def test_parse_failures_show_what_was_generated(driver, load, see):
    load()
    driver.find_element('id', 'only-failures').click()
    assert rows(driver) == ['Good morning, guest 2.', ATTACK]
    driver.find_element('css selector', '.rows a').click()
    until(lambda: see('statement') == 'Good morning, guest 2.')
    raw = driver.find_element('css selector', '.failure pre')
    assert raw.is_displayed() and raw.text == 'Q'
    assert '7 of 7 slots differ' in see('frame') and 'predicted: undecided' in see('frame')
    missing = driver.find_elements('css selector', 'tr.missing th')
    assert len(missing) == 6 and 'missing' in missing[0].text


def test_differing_slots_are_marked(driver, load, see):
    load('f1')
    marked = driver.find_elements('css selector', 'tr.differs')
    assert len(marked) == 1 and marked[0].text.startswith('Power dynamics differs')
    cells = marked[0].find_elements('tag name', 'td')
    assert [each.text for each in cells] == ['power of 1', 'none at all']
    left, right = (each.rect for each in cells)
    assert left['y'] == right['y'] and left['x'] + left['width'] <= right['x'] + 1
    load('f0')
    assert '0 of 7 slots differ' in see('frame'), 'white space does not count'
    load('f4')
    assert driver.find_elements('css selector', 'table.one') and 'Prediction' not in see('frame')


def test_both_contexts_of_a_pair_are_side_by_side(driver, load, see):
    load('f3')
    heads = driver.find_elements('css selector', '.pair thead .side')
    assert [each.text.split('\n') for each in heads] == [
        ['Side A', 'not offensive', 'predicted: not offensive'],
        ['Side B', 'offensive', 'predicted: not offensive', 'wrong prediction'],
    ]
    first = driver.find_element('css selector', '.pair tbody tr')
    cells = first.find_elements('tag name', 'td')
    assert [each.text for each in cells] == ['After a hard week', 'After a missed deadline']
    left, right = (each.rect for each in cells)
    assert left['y'] == right['y'] and left['x'] + left['width'] <= right['x'] + 1
    driver.find_element('id', 'one-context').click()
    assert 'After a missed deadline' in see('frame') and 'After a hard week' not in see('frame')
    press(driver, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert see('position') == '6 of 120' and 'After a hard week' in see('frame')
    driver.find_element('id', 'both-contexts').click()
    assert 'After a missed deadline' in see('frame')
    load('f4')
    assert not driver.find_elements('css selector', '.choice')


def test_search_looks_through_all_texts(driver, load, see):
    load()
    search = driver.find_element('id', 'search')
    for words, found in (
        ('FINISHED early', [PRAISE] * 2),
        ('listener of 77', ['Good morning, guest 77.']),
        ('walnut', [PRAISE]),
        ('none at all', ['Good morning, guest 1.']),
        ('no such words', []),
    ):
        search.clear()
        search.send_keys(words)
        until(lambda found=found: rows(driver) == found)
    driver.find_element('id', 'clear').click()
    until(lambda: see('found') == 'All 120 frames')
    assert search.get_property('value') == ''


def test_arrow_keys_and_buttons_go_through_the_list(driver, load, see):
    load()
    press(driver, Keys.ARROW_RIGHT)
    assert see('statement') == 'Good morning, guest 0.' and see('position') == '1 of 120'
    assert not driver.find_element('id', 'previous').is_enabled()
    driver.find_element('id', 'next').click()
    press(driver, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert see('statement') == 'Good morning, guest 1.'
    until(lambda: driver.current_url.endswith('#f1'))
    current = driver.find_elements('css selector', '.rows [aria-current]')
    assert [each.get_attribute('href').split('#')[1] for each in current] == ['f1']
    load('f49')
    assert see('page') == '1–50'
    press(driver, Keys.ARROW_RIGHT)
    assert see('position') == '51 of 120' and see('page') == '51–100'
    driver.find_element('id', 'previous').click()
    assert see('position') == '50 of 120' and see('page') == '1–50'
    driver.find_element('id', 'search').send_keys('guest 11', Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    until(lambda: see('found') == '11 of 120 frames')
    assert see('statement') == 'Good morning, guest 49.'
    assert see('position') == 'outside the filters'
    driver.find_element('id', 'next').click()
    assert see('position') == '1 of 11' and see('statement') == 'Good morning, guest 11.'
    until(lambda: driver.current_url.endswith('#f11'))


def test_an_address_opens_its_frame(driver, load, see):
    load('f60')
    assert see('statement') == 'Good morning, guest 60.' and see('page') == '51–100'
    load(STRANGE_ID)
    assert see('statement') == 'Good morning, guest 9.'
    driver.execute_script("location.hash = '#f61'")
    until(lambda: see('statement') == 'Good morning, guest 61.')
    driver.back()
    until(lambda: see('statement') == 'Good morning, guest 9.')
    for unknown in ('nobody', '%E0%A4%A'):
        driver.execute_script(f"location.hash = '#{unknown}'")
        until(lambda: 'no frame with the id' in see('frame'))


def test_markup_in_texts_is_text(driver, load, see):
    load('f7')
    assert see('statement') == ATTACK and see('frame').count(ATTACK) >= 5
    assert ATTACK in rows(driver)
    assert driver.execute_script('return window.taken ?? null') is None
    assert not driver.find_elements('css selector', 'img, #app script')


def test_the_policy_stops_what_is_not_of_the_page(driver, address):
    """And the console tells: the other tests see that it stays empty."""
    driver.get('about:blank')
    driver.get(address)
    driver.execute_script(
        "const script = document.createElement('script');"
        "script.textContent = 'window.taken = 1';"
        'document.body.append(script);'
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png';"
        'document.body.append(image);'
    )
    until(lambda: driver.execute_script('return document.images[0].complete'))
    assert driver.execute_script('return window.taken ?? null') is None
    told = [each['message'] for each in driver.get_log('browser')]
    assert any('inline script' in each for each in told)
    assert any('127.0.0.1:9' in each and 'Content Security Policy' in each for each in told)


@pytest.mark.parametrize('width', [360, 1300])
def test_no_width_needs_scrolling_to_the_side(driver, load, see, width):
    """A long word too; on a phone the list makes room for the frame, and comes back."""
    metrics = dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 800)
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
    try:
        load()
        wide = (
            "const panes = [...document.querySelectorAll('html, .frame-pane, .rows')];"
            'return panes.some((pane) => pane.scrollWidth > pane.clientWidth)'
        )
        assert not driver.execute_script(wide)
        for number in (13, 3, 7, 1):
            driver.execute_script(f"location.hash = '#f{number}'")
            until(lambda number=number: see('position') == f'{number + 1} of 120')
            assert not driver.execute_script(wide)
        shown = driver.find_element('id', 'rows').is_displayed()
        assert shown == (width > 800)
        if width < 800:
            driver.find_element('id', 'to-list').click()
            assert driver.find_element('id', 'rows').is_displayed()
            assert driver.switch_to.active_element.get_attribute('href').endswith('#f1')
    finally:
        driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


def test_ten_thousand_frames_leave_the_document_small(driver, tmp_path):
    path = tmp_path / 'large.html'
    write_browser(path, (frame_of(n) for n in range(10_000)))
    driver.get(path.as_uri() + '#f9999')
    driver.find_element('id', 'accept').click()
    assert driver.find_element('id', 'position').text == '10,000 of 10,000'
    assert driver.execute_script('return document.querySelectorAll("*").length') < 1500
    driver.find_element('id', 'search').send_keys('guest 98')
    count = sum('98' in str(number) for number in range(10_000))
    until(lambda: driver.find_element('id', 'found').text == f'{count} of 10,000 frames')
    assert len(rows(driver)) == 50 and driver.get_log('browser') == []
